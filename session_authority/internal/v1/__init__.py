"""Contains the generated code of the messages in Redis and in cursors. See
`protos/session_authority/internal/v1`.
"""
