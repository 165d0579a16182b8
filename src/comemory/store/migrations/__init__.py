"""The steps from an empty database to `schema.metadata`, run when a store is opened."""
