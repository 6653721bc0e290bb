"""One module per command of `testerctl`."""
