job "ingress" {
  datacenters = ["dc1"]
  group "gateway" {
    network {
      mode = "bridge"
      port "inbound" {
        static = 8080
        to     = 8080
      }
    }
    service {
      name = "my-ingress"
      port = "8080"
      connect {
        gateway {
          proxy {
            connect_timeout               = "10s"
            envoy_gateway_no_default_bind = true
            envoy_gateway_bind_addresses "default" {
              address = "0.0.0.0"
              port    = 8080
            }
          }
          ingress {
            tls {
              enabled         = true
              tls_min_version = "TLSv1_2"
              cipher_suites   = ["TLS_AES_128_GCM_SHA256"]
            }
            listener {
              port     = 8080
              protocol = "http"
              service {
                name            = "web"
                hosts           = ["example.com", "*.example.com"]
                max_connections = 1024
                request_headers {
                  add {
                    x-from = "ingress"
                  }
                  remove = ["x-debug"]
                }
              }
            }
            listener {
              port = 9000
              service {
                name = "tcp-echo"
              }
            }
          }
        }
      }
    }
  }
  group "api" {
    network {
      mode = "bridge"
      port "wan" {}
    }
    service {
      name = "api-gateway"
      connect {
        gateway {
          terminating {
            service {
              name    = "billing"
              ca_file = "/etc/ssl/ca.pem"
              sni     = "billing.internal"
            }
          }
        }
      }
    }
    service {
      name = "mesh-gateway"
      port = "wan"
      connect {
        gateway {
          mesh {}
        }
      }
    }
    service {
      name = "native"
      connect {
        native = true
      }
      identity {
        aud  = ["consul.io"]
        file = true
        ttl  = "1h"
      }
      weights {
        passing = 10
      }
      tagged_addresses {
        wan = "203.0.113.7"
      }
    }
  }
}
