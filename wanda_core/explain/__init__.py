"""Small pictures of why Wanda keeps what it keeps."""
