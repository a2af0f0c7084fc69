# What the Prefect server remembers: PostgreSQL with backups to the second, and Redis for its
# messages. The lake needs neither: it tells its own state.

# Made anew at each plan and never stored: not in Terraform's state either.
ephemeral "random_password" "database" {
  length  = 40
  special = false
}

resource "google_sql_database_instance" "prefect" {
  name                = "prefect"
  database_version    = "POSTGRES_17"
  deletion_protection = true

  settings {
    tier                        = "db-custom-2-8192"
    edition                     = "ENTERPRISE"
    availability_type           = "REGIONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = 50
    disk_autoresize             = true
    deletion_protection_enabled = true

    backup_configuration {
      enabled                        = true
      start_time                     = "11:00"
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7

      backup_retention_settings {
        retained_backups = 14
      }
    }

    ip_configuration {
      ipv4_enabled    = false
      private_network = google_compute_network.this.id
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    database_flags {
      name  = "log_checkpoints"
      value = "on"
    }

    database_flags {
      name  = "log_connections"
      value = "on"
    }

    database_flags {
      name  = "log_disconnections"
      value = "on"
    }

    database_flags {
      name  = "log_lock_waits"
      value = "on"
    }

    maintenance_window {
      day  = 6
      hour = 12
    }
  }

  depends_on = [google_service_networking_connection.services]
}

resource "google_sql_database" "prefect" {
  name     = "prefect"
  instance = google_sql_database_instance.prefect.name
}

# A new password: raise both versions.
resource "google_sql_user" "prefect" {
  name                = "prefect"
  instance            = google_sql_database_instance.prefect.name
  password_wo         = ephemeral.random_password.database.result
  password_wo_version = 1
}

resource "google_secret_manager_secret" "database" {
  secret_id = "prefect-database"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.used]
}

resource "google_secret_manager_secret_version" "database" {
  secret = google_secret_manager_secret.database.id
  secret_data_wo = join("", [
    "postgresql+asyncpg://prefect:${ephemeral.random_password.database.result}",
    "@${google_sql_database_instance.prefect.private_ip_address}:5432/prefect?ssl=require",
  ])
  secret_data_wo_version = 1
}

resource "google_redis_instance" "prefect" {
  name               = "prefect"
  tier               = "STANDARD_HA"
  memory_size_gb     = 2
  redis_version      = "REDIS_7_2"
  authorized_network = google_compute_network.this.id
  connect_mode       = "PRIVATE_SERVICE_ACCESS"
  auth_enabled       = true

  redis_configs = {
    # A message that is thrown out to make room is a task run that is never recorded.
    maxmemory-policy = "noeviction"
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_service_networking_connection.services]
}
