"""Premium registrations: the example that feeds the catalog that ships. Nothing outside this package imports it."""
