"""What datasets and served models are asked, beside what gates measure."""
