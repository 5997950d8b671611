"""Everything that runs besides the web: the processes themselves, and the jobs of the clock."""
