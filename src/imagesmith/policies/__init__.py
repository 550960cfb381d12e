"""Resource policies: their language, what may be shared by them, and the decision about a request. Pure."""
