"""Who a runtime is: SPIFFE identities, the local authority, mutual TLS and its renewal."""
