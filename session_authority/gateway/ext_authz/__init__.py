"""Owns the protocol between Envoy and the gateway: the questions and answers of
`envoy.service.auth.v3.Authorization/Check`. It decides nothing about a request, and knows no server
of gRPC.
"""
