"""What is written for people: manifests and pages, read so that tests can hold them to it."""
