"""The loop: load, observe, advance, save by compare-and-swap, then act. Woken by a timer or the bell."""
