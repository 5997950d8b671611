"""Whether the caller may: tier, model, max_tokens and the rate limit, behind one gate."""
