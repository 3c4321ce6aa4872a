"""Who may do what: roles, tokens, the audit chain, and the masking of secrets."""
