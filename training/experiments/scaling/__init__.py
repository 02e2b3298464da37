"""A scaling law from one's own runs: points become laws, advice and a page. No torch in here."""
