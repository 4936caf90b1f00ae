"""Speaks the gRPC protocol between Envoy and the gateway: the questions and answers of
`envoy.service.auth.v3.Authorization/Check`.

This package decides nothing about a request, and knows no gRPC server.
"""
