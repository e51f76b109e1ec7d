"""The server engine: HTTP/1.1 on asyncio without a framework. It knows no protocol above HTTP."""
