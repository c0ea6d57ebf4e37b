"""Sets the stage for end-to-end tests and the demo: images, the operator, a server, pools."""
