variable "db_password" {
  type      = string
  sensitive = true
  default   = "hunter2"
}

job "wordpress" {
  group "blog" {
    network {
      mode = "cni/mynet"
      port "http" { to = 80 }
      port "mysql" { to = 3306 }
      cni {
        args = {
          tier = "web"
        }
      }
    }
    service {
      name     = "blog"
      port     = "http"
      provider = "nomad"
      tags = [
        "traefik.enable=true",
        "traefik.http.routers.blog.rule=Host(`blog.example.com`)",
      ]
    }
    task "await-db" {
      driver = "docker"
      lifecycle {
        hook    = "prestart"
        sidecar = false
      }
      config {
        image   = "busybox:1"
        command = "sh"
        args    = ["-c", "until nc -z ${NOMAD_IP_mysql} ${NOMAD_PORT_mysql}; do sleep 1; done"]
      }
    }
    task "mysql" {
      driver = "docker"
      config {
        image = "mysql:8"
        ports = ["mysql"]
      }
      env {
        MYSQL_ROOT_PASSWORD = var.db_password
        MYSQL_DATABASE      = "wordpress"
      }
      resources {
        cpu        = 500
        memory     = 512
        memory_max = 1024
      }
    }
    task "wordpress" {
      driver = "docker"
      config {
        image = "wordpress:6-${attr.cpu.arch}"
        ports = ["http"]
      }
      template {
        env         = true
        destination = "secrets/db.env"
        data        = <<EOT
WORDPRESS_DB_HOST={{ env "NOMAD_ADDR_mysql" }}
WORDPRESS_DB_PASSWORD=${var.db_password}
EOT
      }
    }
    task "cleanup" {
      driver = "docker"
      lifecycle {
        hook = "poststop"
      }
      config {
        image = "busybox:1"
        args  = ["true"]
      }
    }
  }
}
