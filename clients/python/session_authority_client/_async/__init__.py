"""The client for asyncio, from which that for threads is generated."""
