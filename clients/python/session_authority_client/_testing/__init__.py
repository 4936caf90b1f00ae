"""The fake service behind `session_authority_client.testing`: its memory, rules and methods."""
