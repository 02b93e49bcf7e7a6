"""What predictions and runs cost the world and their owner."""
