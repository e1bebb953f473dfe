"""Results for people: plain lines and plots, made from what a run left in its folder."""
