"""Generated code of what Redis holds. See `protos/session_authority/internal/v1`."""
