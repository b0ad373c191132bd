"""dossier: documents that a court, a colleague or a partner reads."""
