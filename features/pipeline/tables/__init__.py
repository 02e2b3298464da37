"""The rows of computed feature tables: which impressions and earlier rows they are made of."""
