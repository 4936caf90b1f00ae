"""The code that the clients for asyncio and for threads share. This code decides, converts and
counts. It never waits.
"""
