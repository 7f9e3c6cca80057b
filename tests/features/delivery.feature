Feature: An event reaches everybody whom it concerns, and at once
  A buyer and a node watch their own channels. Whatever happens in their deals comes to both.

  Background:
    Given a buyer ada
    And a node oslo

  Scenario Outline: both parties of an order learn of it over <transport>
    Given ada watches buyer:ada over <transport>
    And oslo watches node:oslo over <transport>
    When an ORDER_CREATED of ada with oslo is published
    Then ada receives it
    And oslo receives it

    Examples:
      | transport |
      | WebSocket |
      | SSE       |

  Scenario Outline: a deal comes whole and in order over <transport>
    Given ada watches buyer:ada over <transport>
    When a whole deal of ada with oslo is published
    Then ada receives, in this order
      | type                |
      | INTENT_CREATED      |
      | QUOTE_RECEIVED      |
      | NEGOTIATION_STARTED |
      | ORDER_CREATED       |
      | PAYMENT_SUCCEEDED   |

    Examples:
      | transport |
      | WebSocket |
      | SSE       |

  Scenario: a node sees new intents on the board
    Given oslo watches market:intents over SSE
    When an INTENT_CREATED of ada is published
    Then oslo receives it, maybe after others

  Scenario: an order's channel brings its payment too
    Given ada watches order:o1 over WebSocket
    When an ORDER_CREATED of ada with oslo over o1 is published
    And a PAYMENT_SUCCEEDED of ada with oslo over o1 is published
    Then ada receives, in this order
      | type              |
      | ORDER_CREATED     |
      | PAYMENT_SUCCEEDED |

  Scenario: what is published twice comes once
    Given ada watches buyer:ada over WebSocket
    When an ORDER_CREATED of ada with oslo is published
    And the same is published again
    And an ORDER_CREATED of ada with oslo is published
    Then ada receives exactly what was published, each once
