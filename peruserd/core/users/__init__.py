"""One user: the document, the database with its security object and templates, and what to do about them."""
