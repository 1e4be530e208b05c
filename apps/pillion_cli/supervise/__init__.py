"""Apps and their runtimes as child processes: started, watched, their output shown, stopped."""
