"""The custom resource definition and its reference page, generated from the models of `pool`."""
