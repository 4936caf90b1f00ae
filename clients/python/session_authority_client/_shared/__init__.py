"""Contains the code that the client for asyncio and the client for threads share. Most modules of
`_shared` decide, convert or count, and never wait.
"""
