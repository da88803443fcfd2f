"""The CouchDB client: a dozen requests, typed answers, and errors that say what can be done about them."""
