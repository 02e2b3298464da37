"""The checks of a day by Great Expectations, and the page that shows them."""
