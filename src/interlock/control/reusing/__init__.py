"""What is remembered so that stages are reused and changes told: sources, views of a project, production."""
