"""Files: addresses, which files a path means, sets of files and their versions."""
