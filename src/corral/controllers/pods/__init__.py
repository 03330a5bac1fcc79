"""What controllers that own pods share: making, claiming, ranking and creating them."""
