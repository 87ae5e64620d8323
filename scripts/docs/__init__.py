"""What the documentation takes from elsewhere: results, requests, imports and the notebook."""
