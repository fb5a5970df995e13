"""The processes and sockets of the service: who listens, who answers, who watches over them."""
