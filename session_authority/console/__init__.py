"""Calls a running server for commands that people use: the demo, the tail of events, the health
check, and the commands of the support desk.

This package calls the service in the same way as any other client. Of the service's rooms, this
package imports only `runtime` and the generated contract.
"""
