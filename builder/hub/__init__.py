"""What publishing, training and evaluation share of the Hub: its client, files compared by their ids, one commit."""
