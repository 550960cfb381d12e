"""What is inside an image: operating system and package inventory."""
