"""suspects: models to be compared, each as a file of answers or as an endpoint."""
