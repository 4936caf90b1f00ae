"""Generated code of what Redis and cursors hold. See `protos/session_authority/internal/v1`."""
