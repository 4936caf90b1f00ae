"""Contains the generated code of the messages in Redis, in cursors, and between Envoy and the
gateway. See `protos/session_authority/internal/v1`.
"""
