"""detect: profiles, traits, communities, campaigns."""
