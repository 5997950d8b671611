"""Who is asking: wallet sign-in and the tokens that it yields."""
