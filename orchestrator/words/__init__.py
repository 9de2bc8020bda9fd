"""What everything is said in: errors, states, frozen values, secrets, and the ports to the outside world."""
