"""What was served, compared with what was learnt from and with what came true."""
