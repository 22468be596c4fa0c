"""Four small API services in the manner of OpenStack Nova: compute, volume, metadata, ec2."""
