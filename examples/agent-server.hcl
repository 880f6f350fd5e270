# One of three servers of a datacenter.
#
#   serai agent -config examples/agent-server.hcl
name       = "eu-server-1"
region     = "eu"
datacenter = "eu-west"
data_dir   = "/var/lib/serai"
bind_addr  = "127.0.0.1"
log_level  = "INFO"

server {
  enabled          = true
  bootstrap_expect = 3

  server_join {
    retry_join     = ["10.1.0.11:4648", "10.1.0.12:4648", "10.2.0.11:4648"]
    retry_interval = "15s"
  }
}

acl {
  enabled = true
}

telemetry {
  prometheus_metrics  = true
  collection_interval = "1s"
}
