"""The command line: the only part of featplug that reads arguments and prints."""
