"""Who gets what: opens the outside world, builds the services over it, closes all of it in reverse."""
