//! The messages of Session Authority, and a client for its service.

tonic::include_proto!("session_authority.v1");
